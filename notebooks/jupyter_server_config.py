# Read by `jupyter lab --config notebooks/jupyter_server_config.py`, as `make lab` does.
# Tornado drops websocket messages above 10 MB without a word. The demo sends parts of 4 MB; this is for other
# widgets in a notebook of one's own, such as ipywidgets.FileUpload, which send a file as one message.
c = get_config()  # noqa: F821
c.ServerApp.tornado_settings = {"websocket_max_message_size": 64 * 1024 * 1024}
