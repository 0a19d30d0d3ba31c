from telling import teller

app = teller(__name__)
