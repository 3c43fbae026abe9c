"""Principal components of features, computed from the structures of the layout.

Features without values or with the same value everywhere are dropped, other missing values are taken to be the mean.
The features of composition have different units and are divided by their standard deviation; channels of an embedding
have the same and are not. Shapes: `M` structures of the layout, `N` others, `D` features, `U` used ones, `C`
components.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_ROWS: Final = 8_192  # centred at a time


@dataclass(frozen=True, eq=False)
class Components:
    """The projection of features on their principal components.

    `imputed` is the number of values that were missing in the structures of the layout, `explained` the fraction of the
    variance that the components have, 0 to 1 (NaN without variance).
    """

    used_U: npt.NDArray[np.int64]
    means_U: Doubles
    scales_U: Doubles
    axes_UC: Doubles
    imputed: int
    explained: float

    @classmethod
    def of(cls, features_MD: Floats, number: int, *, scaled: bool) -> "Components":
        """Return at most `number` components, the one of greatest variance first."""
        present_MD = np.isfinite(features_MD)
        low_D = np.where(present_MD, features_MD, np.inf).min(axis=0)
        high_D = np.where(present_MD, features_MD, -np.inf).max(axis=0)
        used_U = np.flatnonzero(low_D < high_D)
        means_U = np.array([features_MD[present_MD[:, d], d].mean(dtype=np.float64) for d in used_U])
        scales_U = np.ones(len(used_U))
        if scaled:
            scales_U = np.array([features_MD[present_MD[:, d], d].std(dtype=np.float64) for d in used_U])
        imputed = int((~present_MD[:, used_U]).sum())
        covariance_UU = np.zeros((len(used_U), len(used_U)))
        centred = cls(used_U, means_U, scales_U, np.eye(len(used_U)), imputed, float("nan"))
        for begin in range(0, len(features_MD), _ROWS):
            part = centred._centred(features_MD[begin : begin + _ROWS])
            covariance_UU += part.T @ part
        variances, axes = np.linalg.eigh(covariance_UU)
        first = slice(None, -1 - min(number, len(used_U), max(len(features_MD) - 1, 1)), -1)
        axes_UC = axes[:, first]
        total = float(variances.sum())
        if len(used_U):  # an eigenvector has no sign: let the entry of greatest magnitude be positive
            greatest_C = np.take_along_axis(axes_UC, np.abs(axes_UC).argmax(axis=0)[None], axis=0)[0]
            axes_UC = axes_UC * np.where(greatest_C < 0, -1.0, 1.0)
        explained = float(variances[first].sum()) / total if total > 0 else float("nan")
        return cls(used_U, means_U, scales_U, axes_UC, imputed, explained)

    def _centred(self, features_ND: Floats) -> Doubles:
        values = features_ND[:, self.used_U].astype(np.float64)
        return np.where(np.isfinite(values), (values - self.means_U) / self.scales_U, 0.0)

    def apply(self, features_ND: Floats) -> Floats:
        """Return the components of structures [N, C]."""
        parts = [
            self._centred(features_ND[begin : begin + _ROWS]) @ self.axes_UC
            for begin in range(0, len(features_ND), _ROWS)
        ]
        return np.concatenate([np.empty((0, self.axes_UC.shape[1])), *parts]).astype(np.float32)
