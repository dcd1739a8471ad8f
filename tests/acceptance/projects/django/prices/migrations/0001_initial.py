"""The first tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes the table of prices."""

    operations = [
        migrations.CreateModel(
            name="Price",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("article", models.CharField(max_length=80)),
                ("cents", models.IntegerField()),
            ],
        )
    ]
