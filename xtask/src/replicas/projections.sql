SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT refold.create_projection('sku', 'fold_sku(sku, refold.event)', key => 'sku_of(refold.event)');
SELECT refold.create_projection('journal', 'note(refold.event)', '{journal}', serial => true);
SELECT refold.create_projection('tally', 'add_tally(refold.event[])', '{tally}');
