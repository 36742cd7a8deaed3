"""The operator alone, over shapes, dtypes and layouts."""
