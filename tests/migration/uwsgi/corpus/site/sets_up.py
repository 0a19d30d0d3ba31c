import os

os.environ["SITE_SET_UP"] = "yes"
