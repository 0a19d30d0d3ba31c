from flask import Flask, jsonify, request, url_for

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
@app.route("/<path:rest>", methods=["GET", "POST"])
def index(rest=""):
    return jsonify(
        root=request.script_root,
        path=request.path,
        query=request.query_string.decode(),
        link=url_for("index", rest="a b"),
        body=request.get_data(as_text=True),
    )
