import extra
from telling import teller

app = teller(__name__, extra=extra.WHERE)
