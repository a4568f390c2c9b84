"""The reproduced report: ablations, model cards, figures and the four-class data set."""
