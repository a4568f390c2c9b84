"""Configuration of Swin models, and the named variants as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from swin_core.errors import ConfigError

PRECISIONS = ("auto", "float32", "bfloat16")
"""Precisions of matrix products; "auto" is bfloat16 where the device has it, else float32."""


@dataclass(frozen=True)
class SwinConfig:
    """Shape of a Swin. The defaults are Swin-T on ImageNet-1k (paper, section 3.3)."""

    image_size: int = 224
    """Side of the training images in pixels; other sizes work. It sets the size of the absolute embedding, and the
    windows that the position bias of Swin V2 is relative to."""
    patch_size: int = 4
    """Side of a patch in pixels."""
    in_chans: int = 3
    """Image channels."""
    num_classes: int = 1000
    """Number of classes; with 0 the model has no head and returns pooled features."""
    embed_dim: int = 96
    """Width C of the first stage; it doubles at each patch merging."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks per stage."""
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    """Attention heads per stage."""
    window_size: int = 7
    """Window side M in tokens."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP divided by its input width."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    drop_path: float = 0.0
    """Stochastic depth rate of the last block; the rate grows linearly from 0 over the blocks."""
    mixer: Literal["attention", "mlp"] = "attention"
    """"attention" for Swin; "mlp" for Swin-MLP, which mixes the tokens of a window by a learned matrix per head."""
    shift: bool = True
    """Whether every second block shifts its windows; False for the ablation of table 4."""
    relative_position_bias: bool = True
    """Whether attention has the relative position bias; False for the ablation of table 4."""
    absolute_embedding: bool = False
    """Whether a learned absolute position embedding is added to the patches (slightly less accurate, table 4)."""
    version: int = 1
    """2 for Swin V2 (Liu et al. 2022): cosine attention, a position bias for windows of any size, and norms after each
    attention and MLP."""
    pretrained_window_sizes: tuple[int, ...] = ()
    """Window side of each stage, in tokens, that the position bias of Swin V2 was trained with; empty for the windows
    of images of `image_size`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not _has_type_of(value, field.default):
                raise ConfigError(f"model setting {field.name} must be like {field.default!r}, not {value!r:.80}.")
        # JSON gives lists; the config stays hashable and comparable.
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "num_heads", tuple(self.num_heads))
        object.__setattr__(self, "pretrained_window_sizes", tuple(self.pretrained_window_sizes))
        if len(self.depths) != len(self.num_heads) or not self.depths:
            raise ConfigError(
                f"depths {self.depths} and num_heads {self.num_heads} must have one entry for each stage."
            )
        for name in ("image_size", "patch_size", "in_chans", "embed_dim", "window_size", "depths", "num_heads"):
            value = getattr(self, name)
            smallest = min(value) if isinstance(value, tuple) else value
            if smallest < 1:
                raise ConfigError(f"{name} must be at least 1, not {smallest}.")
        if self.num_classes < 0:
            raise ConfigError(f"num_classes must be 0 or more, not {self.num_classes}.")
        if not 0 < self.mlp_ratio < float("inf"):
            raise ConfigError(f"mlp_ratio must be above 0, not {self.mlp_ratio}.")
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path must be in [0, 1), not {self.drop_path}.")
        if self.mixer not in ("attention", "mlp"):
            raise ConfigError(f"mixer must be 'attention' or 'mlp', not {self.mixer!r}.")
        if self.version not in (1, 2):
            raise ConfigError(f"version must be 1 or 2, not {self.version}.")
        if self.version == 2 and self.mixer == "mlp":
            raise ConfigError("Swin V2 has no all-MLP form; set version to 1 or mixer to 'attention'.")
        if self.pretrained_window_sizes and self.version == 1:
            raise ConfigError("pretrained_window_sizes belong to Swin V2; leave them out or set version to 2.")
        if self.pretrained_window_sizes and (
            len(self.pretrained_window_sizes) != len(self.depths) or min(self.pretrained_window_sizes) < 1
        ):
            sizes = self.pretrained_window_sizes
            raise ConfigError(f"pretrained_window_sizes {sizes} must have one entry of at least 1 for each stage.")
        for stage, heads in enumerate(self.num_heads):
            if self.width(stage) % heads:
                raise ConfigError(f"stage {stage + 1} is {self.width(stage)} wide, which {heads} heads do not divide.")

    def width(self, stage: int) -> int:
        """Return the number of channels of a stage, counted from 0."""
        return self.embed_dim * 2**stage

    def trained_windows(self) -> tuple[int, ...]:
        """Return the window side of each stage in training, in tokens; a window is at most as large as its map."""
        side = -(-self.image_size // self.patch_size)
        fitted = (min(self.window_size, -(-side // 2**stage)) for stage in range(len(self.depths)))
        return self.pretrained_window_sizes or tuple(fitted)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SwinConfig":
        """Return the config that `to_dict` wrote.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        known = cls.__dataclass_fields__.keys()
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"unknown model setting {unknown[0]!r}; known are {', '.join(known)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as values for JSON."""
        return asdict(self)


def _has_type_of(value: object, default: object) -> bool:
    """Whether a value has the type of `default`; an int is a float, a bool is not an int, and 2.0 is not an int."""
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and all(type(item) is int for item in value)
    return type(value) is type(default) or (type(default) is float and type(value) is int)


_LARGE: dict[str, Any] = {"embed_dim": 192, "num_heads": (6, 12, 24, 48), "depths": (2, 2, 18, 2)}
_BASE: dict[str, Any] = {"embed_dim": 128, "num_heads": (4, 8, 16, 32), "depths": (2, 2, 18, 2)}
_AT_384: dict[str, Any] = {"image_size": 384, "window_size": 12}
_V2: dict[str, Any] = {"version": 2, "image_size": 256, "window_size": 8}
_MLP: dict[str, Any] = {"mixer": "mlp", "image_size": 256, "window_size": 8}
_SMALL_INPUT: dict[str, Any] = {"image_size": 32, "patch_size": 2, "window_size": 4, "num_classes": 100}

VARIANTS: dict[str, SwinConfig] = {
    "swin_tiny": SwinConfig(),
    "swin_small": SwinConfig(depths=(2, 2, 18, 2)),
    "swin_base": SwinConfig(**_BASE),
    "swin_large": SwinConfig(**_LARGE),
    "swin_base_384": SwinConfig(**_BASE, **_AT_384),
    "swin_large_384": SwinConfig(**_LARGE, **_AT_384),
    "swinv2_tiny": SwinConfig(**_V2),
    "swinv2_small": SwinConfig(depths=(2, 2, 18, 2), **_V2),
    "swinv2_base": SwinConfig(**_BASE, **_V2),
    # Swin-MLP; c24, c12 and c6 are the channels per head (the authors' swin_mlp configs).
    "swin_mlp_tiny_c24": SwinConfig(num_heads=(4, 8, 16, 32), **_MLP),
    "swin_mlp_tiny_c12": SwinConfig(num_heads=(8, 16, 32, 64), **_MLP),
    "swin_mlp_tiny_c6": SwinConfig(num_heads=(16, 32, 64, 128), **_MLP),
    "swin_mlp_base": SwinConfig(**_BASE, **_MLP),
    # For images of 32 to 96 pixels, which are too small for several stages of patch 4 and window 7.
    "swin_nano": SwinConfig(embed_dim=48, depths=(2, 2, 2), num_heads=(2, 4, 8), **_SMALL_INPUT),
    "swin_micro": SwinConfig(embed_dim=64, depths=(2, 4, 2), num_heads=(2, 4, 8), **_SMALL_INPUT),
    "swin_milli": SwinConfig(embed_dim=96, depths=(2, 4, 2), num_heads=(3, 6, 12), **_SMALL_INPUT),
    "swin_mini": SwinConfig(embed_dim=96, depths=(2, 6, 4), num_heads=(3, 6, 12), **_SMALL_INPUT),
    "swin_mlp_nano": SwinConfig(embed_dim=48, depths=(2, 2, 2), num_heads=(2, 4, 8), mixer="mlp", **_SMALL_INPUT),
    "swinv2_nano": SwinConfig(version=2, embed_dim=48, depths=(2, 2, 2), num_heads=(2, 4, 8), **_SMALL_INPUT),
    # A plain ViT with mean pooling (Beyer et al. 2022), as large as swin_nano: one stage with one window.
    # Keep window_size at image_size / patch_size.
    "vit_nano": SwinConfig(
        embed_dim=144,
        depths=(5,),
        num_heads=(6,),
        shift=False,
        relative_position_bias=False,
        absolute_embedding=True,
        **_SMALL_INPUT | {"patch_size": 4, "window_size": 8},
    ),
}
"""The paper's variants (section 3.3), those for 384 pixels, Swin V2, Swin-MLP, small models, and a ViT."""
