"""HTTP applications: the custody API, and how it is served."""

from imarium.web.custody import create_app, openapi_document
from imarium.web.desk import Holding, Steward
from imarium.web.limits import Limits
from imarium.web.listen import Endpoint, Server, Tls

__all__ = ["Endpoint", "Holding", "Limits", "Server", "Steward", "Tls", "create_app", "openapi_document"]
