-- Roles are the cluster's: a dump of one database has none.
CREATE ROLE "Shop Owner";
CREATE ROLE shop_app;
CREATE ROLE shop_dev IN ROLE "Shop Owner";
