-- Who owned a car when: `valid_from` belongs to the interval, `valid_to` does not and is empty for the present owner.
with facts as (
    select vin, owner_id, cast(cast(registered_on as date) as timestamptz) as valid_from
    from {{ source('bronze', 'fleet') }}
    union all
    select vin, new_value as owner_id, changed_at as valid_from
    from {{ source('bronze', 'fleet_changes') }}
    where field = 'owner_id'
)

select
    vin,
    owner_id,
    valid_from,
    lead(valid_from) over (partition by vin order by valid_from) as valid_to
from facts
