-- Prices by day and hour (UTC). `valid_to` is the last day; an open one gets a day that never comes.
select
    tariff_id,
    name as tariff,
    cast(valid_from as date) as valid_from,
    coalesce(cast(valid_to as date), date '9999-12-31') as valid_to,
    from_hour,
    to_hour,
    cast(price_per_kwh as numeric(8, 4)) as price_per_kwh,
    currency
from {{ source('bronze', 'tariffs') }}
