-- What a battery still holds: energy that went in while charging, over the points of charge that it brought.
with steps as (
    select
        vin,
        soc_pct - lag(soc_pct) over by_time as gained_pct,
        extract(epoch from measured_at - lag(measured_at) over by_time) as seconds,
        lag(battery_v * battery_a) over by_time as watts
    from {{ ref('telemetry') }}
    where charging <> 'none'
    window by_time as (partition by vin order by measured_at, seq)
),

charged as (
    select
        vin,
        sum(gained_pct) as gained_pct,
        sum(watts * seconds) / 3600000.0 as gained_kwh
    from steps
    -- A longer step is the way from one charging to the next.
    where seconds <= 300
    group by vin
),

odometers as (
    select vin, max(odometer_km) as odometer_km, max(measured_at) as last_seen_at
    from {{ ref('telemetry') }}
    group by vin
)

select
    cars.vin,
    cars.make || ' ' || cars.model as model,
    cars.chemistry,
    cast((cast(odometers.last_seen_at as date) - cars.registered_on) / 365.25 as numeric(6, 2)) as age_years,
    cast(odometers.odometer_km as numeric(10, 1)) as odometer_km,
    cast(cars.battery_kwh_new as numeric(6, 1)) as battery_kwh_new,
    cast(charged.gained_kwh / charged.gained_pct * 100 as numeric(6, 2)) as battery_kwh_now,
    cast(charged.gained_kwh / charged.gained_pct * 10000 / cars.battery_kwh_new as numeric(5, 1)) as health_pct,
    cast(charged.gained_pct as numeric(8, 1)) as measured_over_pct
from {{ ref('cars') }} as cars
inner join odometers on cars.vin = odometers.vin
inner join charged on cars.vin = charged.vin
-- Less than that and the rounding of the signals would show.
where charged.gained_pct >= 10
