import os

from telling import teller

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
application = teller(__name__, settings=os.environ["DJANGO_SETTINGS_MODULE"])
