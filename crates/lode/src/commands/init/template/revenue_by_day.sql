-- Orders and money by day.
select
    cast(ordered_at as date) as day,
    count(*) as orders,
    sum(amount) as revenue
from {{ source('bronze', 'orders') }}
group by cast(ordered_at as date)
