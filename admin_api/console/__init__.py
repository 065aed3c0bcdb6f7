"""The console: pages for people, made on the server, from the same functions as the API.

How a page is added:

1. `console/SUBJECT.py`: a `router = APIRouter()`, included in `console/app.py`. A page's function takes
   `visitor: Annotated[Visitor, Depends(visiting(Permission.X))]` and `office: InOffice`, calls a function of
   `admin_api/api/SUBJECT.py` or `admin_api/SUBJECT.py` with `seen(visitor)` as the actor (which checks the permission
   and writes the audit log), and returns `page(visitor, "SUBJECT.html", ...)`.
2. `templates/SUBJECT.html` begins with `{% extends "base.html" %}` and fills the blocks `title` and `content`; macros
   for tables, empty states, forms and confirmation are in `macros.html`. No style attribute and no handler: the
   content security policy forbids them. Classes are those of `static/console.css`.
3. Texts are `t("section.name", field=value)`, with a number `plural("section.name", n)`; keys are added to
   `words/en.toml` and `words/ru.toml`. `words.points`, `.money`, `.moment`, `.day`, `.clock`, `.number`, `.outcome`,
   `.operation` write values.
4. A form posts to a function of its own: hidden field `csrf` (macro `csrf()`), then
   `return go("/where", Flash("done", "key.of.text", {}))`. `data-confirm` on a form or button asks before it is sent;
   without scripts it is sent at once, so what cannot be undone has a page of its own that asks. A Problem that is
   raised becomes a page in plain words.
   A form that changes the registry is taken by `entering.taken_once`, and shown again with sentences beside the fields
   when that raises Refused; what is shown once only goes through `credentials.py`.
5. Something live: an element with `id`, `data-refresh="/address"` and `data-every="5"` (s) is fetched again and again;
   the address returns the element's content as a template that extends nothing.
6. In the main navigation: a line in `console/navigation.py`, with the permission that it needs.
"""
