"""The site: Sphinx's configuration, its pages, and the extensions that fill them from what the project knows."""
