"""The codecs that come with mlflow_pipes, one kind of value each."""
