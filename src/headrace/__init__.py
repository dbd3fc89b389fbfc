"""headrace serves LangGraph agents over HTTP from FastAPI and Postgres."""
