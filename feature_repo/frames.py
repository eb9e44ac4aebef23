"""The on-demand views over pandas frames, as Feast calls them; apart, as pandas costs a second."""

import numpy as np
import pandas as pd

from feature_repo.views.qos_margin import INPUTS, compute


def qos_margin(frame: pd.DataFrame) -> pd.DataFrame:
    """The declared features of `qos_margin`, a row a row; null where an input is."""
    columns = {name: frame[name].to_numpy(np.float64, na_value=np.nan) for name in INPUTS}
    return pd.DataFrame(compute(columns), index=frame.index)
