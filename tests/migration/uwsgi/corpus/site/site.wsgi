from telling import teller

application = teller(__name__)
