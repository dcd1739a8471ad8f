"""What is kept of prices."""

from django.db import models


class Price(models.Model):
    """The price of an article, in cents."""

    article = models.CharField(max_length=80)
    cents = models.IntegerField()
