-- What each trip took: way, time and charge.
select
    trip,
    min(measured_at) as started_at,
    max(measured_at) as ended_at,
    max(odometer_km) as km,
    max(soc_pct) - min(soc_pct) as soc_used_pct,
    (max(soc_pct) - min(soc_pct)) / max(odometer_km) as soc_pct_per_km,
    avg(speed_kmh) as mean_kmh,
    avg(ambient_c) as mean_ambient_c
from {{ ref('readings') }}
group by trip
having max(odometer_km) > 0
