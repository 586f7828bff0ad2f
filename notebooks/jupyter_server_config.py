# Read by `jupyter lab --config notebooks/jupyter_server_config.py`, as `make lab` does.
# Tornado drops websocket messages above 10 MB without a word, and an upload is one message. This is above
# sercore.widgets.MAX_UPLOAD_MB, so that a recording somewhat too large still gets its explanation.
c = get_config()  # noqa: F821
c.ServerApp.tornado_settings = {"websocket_max_message_size": 64 * 1024 * 1024}
