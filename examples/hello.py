"""The smallest pipeline: two steps, three calls. Run it twice: the second time nothing is computed."""

from mlflow_pipes import pipeline, run, step


@step
def greet(name: str) -> str:
    return f"Hello, {name}!"


@step
def shout(texts: list[str]) -> str:
    return " ".join(texts).upper()


@pipeline
def hello(names: tuple[str, ...] = ("world", "moon")) -> str:
    return shout([greet(name) for name in names])


if __name__ == "__main__":
    print(run(hello()).output())
