-- Tables of the shop example. Plain SQL for psql; running it again changes nothing.

SET client_min_messages = warning;  -- no notice about what is there already

CREATE TABLE IF NOT EXISTS products (
  sku         text PRIMARY KEY,
  name        text NOT NULL,
  price_cents int NOT NULL CHECK (price_cents >= 0)
);

-- The CHECK is the last line of defence; the handler refuses an order before it gets that far.
CREATE TABLE IF NOT EXISTS stock (
  sku           text PRIMARY KEY REFERENCES products,
  left_in_stock int NOT NULL,
  CONSTRAINT stock_is_never_negative CHECK (left_in_stock >= 0)
);

CREATE TABLE IF NOT EXISTS orders (
  order_id     text PRIMARY KEY,
  user_id      text NOT NULL,
  email        text NOT NULL,
  state        text NOT NULL DEFAULT 'placed',
  confirmation text NOT NULL DEFAULT 'none',
  placed_at    timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT order_state CHECK (state IN ('placed', 'paid')),
  CONSTRAINT order_confirmation CHECK (confirmation IN ('none', 'pending', 'sent', 'failed'))
);

CREATE TABLE IF NOT EXISTS order_lines (
  order_id    text NOT NULL REFERENCES orders,
  sku         text NOT NULL REFERENCES products,
  quantity    int NOT NULL CHECK (quantity > 0),
  price_cents int NOT NULL,
  PRIMARY KEY (order_id, sku)
);

INSERT INTO products (sku, name, price_cents) VALUES
  ('pen',   'A pen',             250),
  ('mug',   'The last mug',     1200),
  ('atlas', 'An atlas, bound',  4900)
ON CONFLICT DO NOTHING;

INSERT INTO stock (sku, left_in_stock) VALUES ('pen', 100), ('mug', 1), ('atlas', 3)
ON CONFLICT DO NOTHING;
