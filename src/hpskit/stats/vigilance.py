from dataclasses import dataclass


@dataclass
class GoldScore:
    agreed: float
    pairs: int


def gold_score(ranks, experts, *, share=0.9):
    n = len(ranks)
    a = 0.0
    p = 0
    for i in range(n):
        for j in range(i + 1, n):
            s = [(e[i] > e[j]) - (e[i] < e[j]) for e in experts if e[i] is not None and e[j] is not None]
            for d in (1, -1):
                if s and s.count(d) / len(s) >= share and ranks[i] is not None and ranks[j] is not None:
                    m = (ranks[i] > ranks[j]) - (ranks[i] < ranks[j])
                    p += 1
                    a += 1.0 if m == d else 0.5 if m == 0 else 0.0
    return GoldScore(a, p) if p else None


@dataclass
class Vigilance:
    state: str
    evidence: float
    at: int | None


def tau_with_reference(ranks, references):
    import numpy as np, math, warnings

    if not len(references):
        return math.nan
    from scipy.stats import kendalltau

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = np.nanmean(np.array(references, float), axis=0)
    ok = ~np.isnan(ranks) & ~np.isnan(m)
    if ok.sum() < 2:
        return math.nan
    return float(kendalltau(np.asarray(ranks)[ok], m[ok]).statistic)


def vigilance(taus, images, peers):
    return Vigilance("clear" if taus else "unchecked", 0.0, None)
