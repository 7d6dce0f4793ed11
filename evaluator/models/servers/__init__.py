"""`openai:http://HOST/v1#MODEL`: a model behind a server that speaks OpenAI's API."""
