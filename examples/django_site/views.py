"""The views, and their URLs: plain, synchronous Django."""

from django.contrib.auth import get_user_model, login, logout  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse, JsonResponse  # type: ignore[import-untyped]
from django.shortcuts import redirect, render  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]
from django.views.decorators.http import require_POST  # type: ignore[import-untyped]

from examples.django_site.presence import presence


def page(request: HttpRequest) -> HttpResponse:
    """Everybody who has an account, with a badge that is right from the first paint on."""
    names = [user.get_username() for user in get_user_model().objects.order_by("username")[:100]]
    statuses = presence.sync.statuses(names)
    people = [{"name": name, "status": statuses[name].value} for name in names]
    return render(request, "page.html", {"people": people, "names": names})


@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    """Take a name: your site asks for a password."""
    user, _ = get_user_model().objects.get_or_create(username=request.POST["name"][:40])
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("/")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """Log out, and be offline at once."""
    if request.user.is_authenticated:
        presence.sync.disconnect(request.user.get_username(), "logged out")
    logout(request)
    return redirect("/")


def status(request: HttpRequest, user: str) -> JsonResponse:
    """For a script of the site's own."""
    return JsonResponse({"user": user, "status": presence.sync.status(user)})


urlpatterns = [path("", page), path("login", log_in), path("logout", log_out), path("status/<str:user>", status)]
