"""Run the migrations on the connection that `storage.migrate` passes in the configuration."""

from alembic import context

from student_success.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
