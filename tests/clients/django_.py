"""Django: settings at connect of every connection, migrations, nested transactions, row locks, and cursors of the server."""

import threading
from urllib.parse import parse_qsl, urlsplit

import django
from django.conf import settings

from check import MODE, URL, equal, run

PARTS = urlsplit(URL)
# In session mode no more connections at once than there are servers.
THREADS = 4 if MODE == "session" else 20

settings.configure(
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": PARTS.path.lstrip("/"),
            "USER": PARTS.username,
            "PASSWORD": PARTS.password,
            "HOST": PARTS.hostname,
            "PORT": PARTS.port,
            "OPTIONS": {**dict(parse_qsl(PARTS.query)), "options": "-c lock_timeout=7s"},
        }
    },
)
django.setup()

from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402


class Note(models.Model):
    tenant = models.IntegerField()
    text = models.TextField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "notes"
        constraints = [models.UniqueConstraint(fields=["tenant", "text"], name="once")]


def set_tenant(connection, **_):
    with connection.cursor() as cursor:
        cursor.execute("SET app.tenant = %s", [threading.current_thread().name])


connection_created.connect(set_tenant)


def shown(*names):
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join("current_setting(%s)" for _ in names), names)
        return cursor.fetchone()


def the_schema_is_made():
    with connection.schema_editor() as editor:
        editor.create_model(Note)
    equal(Note.objects.count(), 0)


def each_connection_has_what_was_set_when_it_was_made():
    failures = []

    def work(number):
        name = threading.current_thread().name
        try:
            for turn in range(10):
                equal(shown("app.tenant", "lock_timeout", "TimeZone"), (name, "7s", "UTC"))
                with transaction.atomic():
                    note = Note.objects.create(tenant=number, text=str(turn))
                    try:
                        with transaction.atomic():
                            Note.objects.create(tenant=number, text=str(turn))
                    except IntegrityError:
                        pass
                    equal(Note.objects.select_for_update().get(pk=note.pk).text, str(turn))
                    equal(shown("app.tenant"), (name,))
            equal(Note.objects.filter(tenant=number).count(), 10)
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[number], name=f"tenant {number}") for number in range(THREADS)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    equal(failures, [])
    equal(Note.objects.count(), 10 * THREADS)


def a_cursor_of_the_server_outlives_the_statement():
    # WITH HOLD, for it is outside a transaction; other statements run in between.
    read = 0
    for note in Note.objects.order_by("pk").iterator(chunk_size=7):
        equal(Note.objects.filter(pk=note.pk).exists(), True)
        read += 1
    equal(read, 10 * THREADS)


def the_schema_goes():
    with connection.schema_editor() as editor:
        editor.delete_model(Note)
    connection.close()


run(
    the_schema_is_made,
    each_connection_has_what_was_set_when_it_was_made,
    a_cursor_of_the_server_outlives_the_statement,
    the_schema_goes,
)
