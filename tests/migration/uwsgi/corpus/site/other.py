from telling import teller

application = app = teller(__name__, other=True)
