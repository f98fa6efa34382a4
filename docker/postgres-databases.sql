-- History, deployments and jobs live in the first database, MLflow in one of its own.
CREATE DATABASE mlflow;
