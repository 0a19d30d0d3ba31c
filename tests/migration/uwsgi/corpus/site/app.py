from telling import teller

app = application = teller(__name__)
