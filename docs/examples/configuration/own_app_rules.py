import hmac
import os


def is_admin(request, action, store, key):
    """Whether the request carries the administrators' token."""
    wanted = f'Bearer {os.environ["ADMIN_TOKEN"]}'
    return hmac.compare_digest(request.headers.get('Authorization', '').encode(), wanted.encode())
