from telling import teller

application = teller(__name__, which="application")
other = teller(__name__, which="other")
