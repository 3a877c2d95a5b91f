-- Name the batches that are open.
select id from batch where state in ('ready', 'uploading', 'waiting')
