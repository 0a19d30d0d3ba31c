from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import re_path

SECRET_KEY = "of the test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "djangosite"


def index(request):
    return JsonResponse(
        {
            "path": request.path,
            "query": request.GET.dict(),
            "body": request.body.decode(),
            "address": request.build_absolute_uri(),
        }
    )


urlpatterns = [re_path("", index)]
application = get_wsgi_application()
