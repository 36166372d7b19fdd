-- The shop on refold, after handlers.sql: two projections, no other code.

SELECT refold.create_projection('cart', 'cart_v1(cart,refold.event)');

SELECT refold.create_projection(
    'sku_sales',
    'sku_sales_v1(refold.event)',
    tables => ARRAY['sku_sales', 'applied']::regclass[],
    event_types => ARRAY['item_added', 'item_removed']
);

-- What the verdict reads.
CREATE VIEW event_log AS
SELECT position, stream_id, stream_version, event_type, data FROM refold.event;
