from telling import teller

app = application = teller(__name__, part="api")
