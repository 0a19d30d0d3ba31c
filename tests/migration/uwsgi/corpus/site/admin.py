from telling import teller

other = application = teller(__name__, part="admin")
