"""How far to trust an attribution map: faithfulness, randomisation, mosaics, baselines."""
