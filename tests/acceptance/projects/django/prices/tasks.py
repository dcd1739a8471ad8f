"""A task as the project had it, and labourers of both forms."""

from celery import shared_task

from prices.models import Price
from sosw_celery import Worker


@shared_task
def cheapest():
    """Return the cheapest article."""
    return Price.objects.order_by("cents").values_list("article", flat=True).first()


@shared_task(base=Worker, name="fetch_prices")
def fetch_prices(event):
    """Keep a price for each article."""
    for article in event["articles"]:
        Price.objects.create(article=article, cents=len(article))


class CountPrices(Worker):
    """Counts the prices that are kept."""

    name = "count_prices"

    def __call__(self, event):
        """Count those of the articles."""
        self.stats["prices"] += Price.objects.filter(article__in=event["articles"]).count()
        return super().__call__(event)
