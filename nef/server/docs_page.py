"""API documentation that needs no other host: Swagger UI from an installed package."""

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = "/docs/assets"
POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:"


def local_docs(app: FastAPI, unfolded: bool = False) -> None:
    """Serves /docs; for an app that was made with `docs_url=None, redoc_url=None`.

    unfolded: the routes are shown at once, not their groups' names alone. Its browser is told to load
    nothing from elsewhere.
    """
    static = files("fastapi_offline") / "static"
    app.mount(ASSETS, StaticFiles(directory=str(static)), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon.png",
            swagger_ui_parameters={
                "validatorUrl": None,
                "docExpansion": "list" if unfolded else "none",
            },
        )
        page.headers["content-security-policy"] = POLICY
        return page
