-- The fleet as of now: the first list with the newest change of each fact.
with newest as (
    select vin, field, new_value
    from (
        select
            vin,
            field,
            new_value,
            row_number() over (partition by vin, field order by changed_at desc) as change_no
        from {{ source('bronze', 'fleet_changes') }}
    ) as changes
    where change_no = 1
)

select
    fleet.vin,
    fleet.spec_id,
    specs.make,
    specs.model,
    specs.year as model_year,
    specs.chemistry,
    cast(specs.battery_kwh_net as double precision) as battery_kwh_new,
    coalesce(owners.new_value, fleet.owner_id) as owner_id,
    fleet.home_city,
    coalesce(firmwares.new_value, fleet.firmware) as firmware,
    cast(fleet.registered_on as date) as registered_on
from {{ source('bronze', 'fleet') }} as fleet
inner join {{ source('bronze', 'vehicle_specs') }} as specs on fleet.spec_id = specs.spec_id
left join newest as owners on fleet.vin = owners.vin and owners.field = 'owner_id'
left join newest as firmwares on fleet.vin = firmwares.vin and firmwares.field = 'firmware'
