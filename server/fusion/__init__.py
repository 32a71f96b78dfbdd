"""From the predictions of a round to what each client is taught."""
