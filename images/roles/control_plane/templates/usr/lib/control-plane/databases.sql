{% for name, user in [("keystone", "keystone"), ("placement", "placement"), ("glance", "glance"), ("neutron", "neutron"), ("nova", "nova"), ("nova_api", "nova"), ("nova_cell0", "nova")] %}
CREATE DATABASE {{ name }} CHARACTER SET utf8mb3;
GRANT ALL ON {{ name }}.* TO {{ user }}@localhost IDENTIFIED BY '{{ password.database }}';
{% endfor %}
