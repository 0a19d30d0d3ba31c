from telling import teller


def create_app(name="default"):
    return teller(__name__, made=name)
