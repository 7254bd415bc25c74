-- One row a city.
with driven as (
    select city, count(*) as trips, count(distinct vin) as cars_driven, sum(km) as km, sum(kwh) as kwh
    from {{ ref('trips') }}
    group by city
),

charged as (
    select city, count(*) as sessions, sum(kwh) as kwh, sum(price) as price
    from {{ ref('charging') }}
    group by city
),

fleet as (
    select home_city as city, count(*) as cars
    from {{ ref('cars') }}
    group by home_city
)

select
    fleet.city,
    fleet.cars,
    coalesce(driven.trips, 0) as trips,
    cast(coalesce(driven.km, 0) as numeric(12, 1)) as km,
    cast(driven.kwh / driven.km * 100 as numeric(6, 2)) as kwh_per_100km,
    coalesce(charged.sessions, 0) as charging_sessions,
    cast(coalesce(charged.kwh, 0) as numeric(12, 1)) as charged_kwh,
    cast(coalesce(charged.price, 0) as numeric(12, 2)) as charged_eur
from fleet
left join driven on fleet.city = driven.city
left join charged on fleet.city = charged.city
