-- One row a trip: readings of a driving car without a pause longer than `trip_gap_minutes`.
with driving as (
    select
        vin,
        seq,
        measured_at,
        speed_kmh,
        soc_pct,
        odometer_km,
        lag(measured_at) over (partition by vin order by measured_at, seq) as before_at
    from {{ ref('telemetry') }}
    where charging = 'none'
),

numbered as (
    select
        *,
        sum(case when before_at >= measured_at - interval '{{ var("trip_gap_minutes") }} minutes' then 0 else 1 end)
            over (partition by vin order by measured_at, seq rows between unbounded preceding and current row) as trip_no
    from driving
),

ends as (
    select
        *,
        first_value(soc_pct) over by_time as soc_start_pct,
        last_value(soc_pct) over by_time as soc_end_pct
    from numbered
    window by_time as (
        partition by vin, trip_no order by measured_at, seq
        rows between unbounded preceding and unbounded following
    )
),

trips as (
    select
        vin,
        trip_no,
        min(measured_at) as started_at,
        max(measured_at) as ended_at,
        count(*) as readings,
        max(odometer_km) - min(odometer_km) as km,
        avg(case when speed_kmh < 0.5 then 1.0 else 0.0 end) as standing_share,
        max(speed_kmh) as top_speed_kmh,
        max(soc_start_pct) as soc_start_pct,
        max(soc_end_pct) as soc_end_pct
    from ends
    group by vin, trip_no
)

select
    trips.vin,
    trips.trip_no,
    owners.owner_id,
    cars.home_city as city,
    trips.started_at,
    trips.ended_at,
    cast(extract(epoch from trips.ended_at - trips.started_at) / 60 as numeric(8, 1)) as minutes,
    cast(trips.km as numeric(8, 2)) as km,
    -- With what the battery holds today where charging told it, else with what it held when new.
    cast(
        (trips.soc_start_pct - trips.soc_end_pct) / 100
        * coalesce(cast(health.battery_kwh_now as double precision), cars.battery_kwh_new)
        as numeric(8, 3)
    ) as kwh,
    weather.ambient_c,
    cast(trips.standing_share * 100 as numeric(5, 1)) as standing_pct,
    trips.top_speed_kmh,
    trips.readings
from trips
inner join {{ ref('cars') }} as cars on trips.vin = cars.vin
left join {{ ref('battery_health') }} as health on trips.vin = health.vin
left join {{ ref('car_owners') }} as owners
    on trips.vin = owners.vin
    and trips.started_at >= owners.valid_from
    and (owners.valid_to is null or trips.started_at < owners.valid_to)
left join {{ ref('weather') }} as weather
    on cars.home_city = weather.city
    and trips.started_at >= weather.ts_from
    and trips.started_at < weather.ts_to
