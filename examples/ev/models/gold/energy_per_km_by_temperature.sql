-- The cold costs range: energy per distance by outside temperature.
select
    bands.band,
    bands.from_c,
    count(*) as trips,
    cast(sum(trips.km) as numeric(12, 1)) as km,
    cast(sum(trips.kwh) as numeric(12, 1)) as kwh,
    cast(sum(trips.kwh) / sum(trips.km) * 100 as numeric(6, 2)) as kwh_per_100km
from {{ ref('trips') }} as trips
inner join {{ ref('temperature_bands') }} as bands
    on trips.ambient_c >= bands.from_c and trips.ambient_c < bands.to_c
where trips.km > 0
group by bands.band, bands.from_c
