-- Run by the PostgreSQL image when its volume is new; the image itself has made the database `prefect`.
CREATE DATABASE mlflow;
